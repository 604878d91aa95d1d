"""A participant's start-up kit of NVFlare: what a site needs in it, certificates, processes, renewal."""
