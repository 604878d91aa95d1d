"""NVFlare's own simulator as a child process: chosen, started, followed live and judged; imports no nvflare."""
