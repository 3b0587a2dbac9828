#!lua flags=allow-oom
-- common: time, lengths, members
-- ARGV: channel, process, member
local was = take(ARGV[1], ARGV[2], ARGV[3], KEYS[1], KEYS[4])
if not was then
  return {0, 0}
end
return {forget(ARGV[1], was), redis.call('HINCRBY', KEYS[4], '', 1)}
