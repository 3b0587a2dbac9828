#!lua flags=allow-oom
-- common: time, lengths
-- KEYS: leaves, what tells of them
-- ARGV: how names of channels begin, head, separator and tail of a message
-- Answers how many there were.
local FORGOTTEN_MS = 300000  -- no process has asked for it: none is there to hear of it
local MOST = 1000  -- at once: a script holds up its server
local MESSAGE_BYTES = 262144

local texts, sizes = {}, {}

local function publish(channel)
  local text = table.concat(texts[channel], ARGV[3])
  redis.call('SPUBLISH', ARGV[1] .. channel, '\0' .. ARGV[2] .. text .. ARGV[4])
  texts[channel], sizes[channel] = nil, nil
end

local moment = now()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', moment, 'WITHSCORES', 'LIMIT', 0, MOST)
for i = 1, #due, 2 do
  local channel, text = split(due[i]), redis.call('HGET', KEYS[2], due[i])
  redis.call('ZREM', KEYS[1], due[i])
  redis.call('HDEL', KEYS[2], due[i])
  if tonumber(due[i + 1]) > moment - FORGOTTEN_MS then
    texts[channel] = texts[channel] or {}
    table.insert(texts[channel], text)
    sizes[channel] = (sizes[channel] or 0) + #text
    if sizes[channel] >= MESSAGE_BYTES then
      publish(channel)
    end
  end
end
for channel in pairs(texts) do
  publish(channel)
end
return #due / 2
