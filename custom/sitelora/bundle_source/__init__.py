"""The one source of all bundles: what any bundle says, what its task says, and one small file a bundle.

``common/`` holds the files of a bundle as every task needs them, ``tasks/<task>/`` what a task says in their place or
beside them, ``bundles/<name>.yaml`` what one bundle says. `make export` writes them out as ``bundles/<name>``.
"""
