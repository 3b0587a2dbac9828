#!lua flags=no-writes
-- KEYS: declarations by pattern, their order
local answer = {}
for i, pattern in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local kept = redis.call('HGET', KEYS[1], pattern)
  answer[i] = {pattern, string.match(kept, '^%d+:(.*)$')}
end
return answer
