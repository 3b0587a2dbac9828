#!lua flags=allow-oom
-- KEYS: value, channels by their ends
-- ARGV: channel
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
