#!lua
-- KEYS: position
-- ARGV: epoch that ends, the next one
local epoch = redis.call('HGET', KEYS[1], 'e')
if not epoch or epoch == ARGV[1] then
  redis.call('HSET', KEYS[1], 'e', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], 2592000000)
local found = redis.call('HMGET', KEYS[1], 'e', 'o')
return {found[1], tonumber(found[2] or 0)}
