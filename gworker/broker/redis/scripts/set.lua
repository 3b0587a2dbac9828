#!lua
-- common: time, values
-- KEYS: value, channels by their ends
-- ARGV: channel, value, ttl (0: none)
return store(ARGV[1], ARGV[2], tonumber(ARGV[3]))
