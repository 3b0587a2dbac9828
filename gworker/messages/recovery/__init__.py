"""What members and processes missed of the groups that keep their messages.

recovery        Recovery, which ties the parts together
joins           members that join: what they missed is sent first
catch_up        how a process gets a channel to where the broker is
incidents       after which incidents, and which channels are due
positions       where channels are, as the broker says
position_check  a look at the channels in which nothing comes
single_flight   reads that many want at once
"""
