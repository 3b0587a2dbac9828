#!lua flags=no-writes
-- KEYS: value, channels by their ends
return redis.call('GET', KEYS[1])
