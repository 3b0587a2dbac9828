-- Store a value, with a time to live of its own (0: none).
-- KEYS: value, channels by their ends
local function store(channel, value, ttl)
  -- A few of those that have ended, so that they do not gather.
  local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now(), 'LIMIT', 0, 16)
  if #ended > 0 then
    redis.call('ZREM', KEYS[2], unpack(ended))
  end
  if ttl > 0 then
    redis.call('SET', KEYS[1], value, 'PX', ttl)
    redis.call('ZADD', KEYS[2], now() + ttl, channel)
  else
    redis.call('SET', KEYS[1], value)
    redis.call('ZADD', KEYS[2], '+inf', channel)
  end
  return 1
end
