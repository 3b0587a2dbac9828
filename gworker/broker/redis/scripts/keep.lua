#!lua
-- KEYS: position, entries, latest values, their order, publication with this idempotency key
-- ARGV: channel, mode, size, ttl, idempotency key, value key, body, epoch if there is none
local mode, size, ttl, value_key = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
local body = ARGV[7]

if ARGV[5] ~= '' then
  local first = redis.call('HMGET', KEYS[5], 'e', 'o')
  if first[1] then
    return {0, first[1], tonumber(first[2]), 1}
  end
end

local epoch, offset = '', 0
local frame = '\0' .. body
if mode ~= 'fleeting' then
  local position = redis.call('HMGET', KEYS[1], 'e', 'o', 'm')
  epoch = position[1]
  if position[3] ~= mode then
    -- Of another mode, or of an epoch of which nothing else is left.
    redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
    redis.call('HSET', KEYS[1], 'm', mode, 'l', position[2] or 0)
  end
  if not epoch then
    epoch = ARGV[8]
    redis.call('HSET', KEYS[1], 'e', epoch)
  end
  offset = redis.call('HINCRBY', KEYS[1], 'o', 1)
  redis.call('PEXPIRE', KEYS[1], 2592000000)
  if mode == 'recoverable' then
    redis.call('XADD', KEYS[2], 'MAXLEN', size, string.format('%.0f-1', offset), 'b', body)
    if ttl > 0 then
      redis.call('PEXPIRE', KEYS[2], ttl)
    else
      redis.call('PERSIST', KEYS[2])
    end
  else
    redis.call('HSET', KEYS[3], value_key, body)
    redis.call('ZADD', KEYS[4], offset, value_key)
    local extra = redis.call('ZCARD', KEYS[4]) - size
    if extra > 0 then
      local popped = redis.call('ZPOPMIN', KEYS[4], extra)
      for i = 1, #popped, 2 do
        redis.call('HDEL', KEYS[3], popped[i])
        redis.call('HSET', KEYS[1], 'l', popped[i + 1])
      end
    end
  end
  frame = '\1' .. epoch .. struct.pack('>I8', offset) .. body
end

if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[5], 'e', epoch, 'o', offset)
  redis.call('PEXPIRE', KEYS[5], 300000)
end
return {redis.call('SPUBLISH', ARGV[1], frame), epoch, offset, 0}
