"""Contract suites for tests of one's own: what every source, network and strategy must satisfy."""
