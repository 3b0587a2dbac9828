#!lua flags=allow-oom
-- common: time, lengths, members
-- ARGV: channel, process
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  forget(ARGV[1], held[i + 1])
end
redis.call('UNLINK', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[1])
return #held / 2
