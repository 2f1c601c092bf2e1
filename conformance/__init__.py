"""A conformance suite for NNC decoders: streams with what must come out of them, a generator, and a runner."""

from nnbits.conformance.manifest import Entry, ExpectedTensor, Manifest

__all__ = ["Entry", "ExpectedTensor", "Manifest"]
