#!lua flags=allow-oom
-- common: time
-- KEYS: leases by their ends
-- ARGV: process, ttl (0: until it is reaped)
local ttl = tonumber(ARGV[2])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], ttl > 0 and now() + ttl or '+inf', ARGV[1])
return (ends and tonumber(ends) > now()) and 1 or 0
