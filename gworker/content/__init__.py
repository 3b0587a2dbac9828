"""What of HTTP touches the file system or a clock: files, directories of them, uploads, dates.

`gworker.http` and `gworker.protocols` do neither.
"""
