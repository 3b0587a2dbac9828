"""The members of the groups that are declared with presence."""
