#!lua flags=allow-oom
-- KEYS: leaves, what they tell
local FORGOTTEN_MS = 300000  -- a leave that nobody has taken for so long has nobody to hear of it
local MOST = 1000  -- at once: a script holds up its server

local function split(text)
  local length, start = string.match(text, '^(%d+):()')
  return string.sub(text, start, start + length - 1), string.sub(text, start + length)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, MOST)
for i = 1, #due, 2 do
  local told = redis.call('HGET', KEYS[2], due[i])
  redis.call('ZREM', KEYS[1], due[i])
  redis.call('HDEL', KEYS[2], due[i])
  if tonumber(due[i + 1]) > now - FORGOTTEN_MS then
    local channel, identity = split(due[i])
    local member, info = split(told)
    answer[#answer + 1] = {channel, member, identity, info}
  end
end
return answer
