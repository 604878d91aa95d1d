"""The site folder contract, its checks, the phantom, and one converter per public dataset."""
