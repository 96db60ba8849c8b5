"""Tests of the real server: real processes, real sockets."""
