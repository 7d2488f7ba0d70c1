"""anecompat: does a Core ML model run on the Apple Neural Engine?"""

__version__ = "1.0.0.dev0"
