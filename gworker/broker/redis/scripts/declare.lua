#!lua
-- KEYS: declarations by pattern, their order
-- ARGV: pattern, text, generation
-- A declaration is kept as: generation, a colon, the text.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept then
  local generation, start = string.match(kept, '^(%d+):()')
  local text = string.sub(kept, start)
  if text ~= ARGV[2] and tonumber(generation) >= tonumber(ARGV[3]) then
    return text
  end
  if tonumber(generation) > tonumber(ARGV[3]) then
    return ''
  end
else
  redis.call('RPUSH', KEYS[2], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ':' .. ARGV[2])
return ''
