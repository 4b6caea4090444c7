from .argparse_utils import FlexibleArgumentParser  # noqa: F401
