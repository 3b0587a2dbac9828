"""The members of users, and of the groups that are declared with presence.

presence    Presence: what the broker is told of the members of one process
events      what all processes hear of members that come and go
callbacks   the calls of on_presence
exits       members that have gone, until the broker surely knows
due_leaves  leaves, which the broker publishes a moment later
lost_data   whether the broker has lost what it knew
"""
