"""Generated from runtime/proto by `make proto`; never edited."""
