"""The command line, one module a family: each gives `add_parser(subparsers)`, whose parser sets ``run(args) -> int``.

``args.wiring`` holds the settings and makes presets and engine on demand.  Heavy imports belong inside ``run``.
"""
