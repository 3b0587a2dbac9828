#!lua
-- KEYS: position
-- ARGV: epoch if there is none
redis.call('HSETNX', KEYS[1], 'e', ARGV[1])
redis.call('PEXPIRE', KEYS[1], 2592000000)
local found = redis.call('HMGET', KEYS[1], 'e', 'o')
return {found[1], tonumber(found[2] or 0)}
