#!lua
-- KEYS: value, channels by their ends
-- ARGV: channel, has expected, expected, value
local found = redis.call('GET', KEYS[1])
if ARGV[2] == '1' then
  if found ~= ARGV[3] then return 0 end
elseif found then
  return 0
end
redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL')
redis.call('ZADD', KEYS[2], 'NX', '+inf', ARGV[1])
return 1
