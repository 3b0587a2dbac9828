#!lua
-- common: time, values
-- KEYS: value, channels by their ends
-- ARGV: channel, value, ttl (0: none)
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
return store(ARGV[1], ARGV[2], tonumber(ARGV[3]))
