#!/usr/bin/env python3
"""The size of the one file."""

import os

import measuring


def main():
    row = measuring.Row("binary")
    row.figure(f"{os.path.basename(measuring.harness.BINARY)}", os.path.getsize(measuring.harness.BINARY) / (1 << 20), "MiB", 80)
    row.end()


if __name__ == "__main__":
    main()
