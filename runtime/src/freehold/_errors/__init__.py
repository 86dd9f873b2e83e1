"""The classes behind `freehold.errors`, split by what fails. Import them from there."""
