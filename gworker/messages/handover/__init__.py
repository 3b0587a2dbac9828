"""Members that move to another process: nothing is lost or doubled on the way.

handover   Handover, which ties the parts together, and says how it works
departure  what goes to one successor
arrival    what comes from one predecessor
successor  what a process does with the members that come
moved      what the predecessor says of them
"""
