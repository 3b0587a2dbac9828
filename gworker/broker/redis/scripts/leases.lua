#!lua flags=no-writes
-- common: time
-- KEYS: leases by their ends
-- ARGV: processes; none: all
-- Answers names and milliseconds that are left, which are negative after the end.
local FOR_EVER = 86400000
local flat = {}
if #ARGV > 0 then
  for i, ends in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV))) do
    flat[2 * i - 1], flat[2 * i] = ARGV[i], ends or '0'
  end
else
  flat = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
end
local moment = now()
for i = 2, #flat, 2 do
  flat[i] = flat[i] == 'inf' and FOR_EVER or tonumber(flat[i]) - moment
end
return flat
