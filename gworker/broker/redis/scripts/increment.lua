#!lua
-- KEYS: value, channels by their ends
-- ARGV: channel, delta
redis.call('INCRBY', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], 'NX', '+inf', ARGV[1])
return redis.call('GET', KEYS[1])
