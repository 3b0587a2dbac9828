#!lua flags=allow-oom
-- KEYS: leases by their ends
-- ARGV: process, ttl (0: until it is reaped)
local ttl = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], ttl > 0 and now + ttl or '+inf', ARGV[1])
return (ends and tonumber(ends) > now) and 1 or 0
