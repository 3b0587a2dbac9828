#!lua flags=no-writes
-- KEYS: position, entries, latest values, their order
-- ARGV: mode, epoch, offset, limit (0: all), reverse
local mode, epoch, asked = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, is_reverse = tonumber(ARGV[4]), ARGV[5] == '1'
local position = redis.call('HMGET', KEYS[1], 'e', 'o', 'm', 'l')
if not position[1] then
  return {'', 0, epoch == '' and 1 or 0, {}}
end
local top = tonumber(position[2] or 0)
if epoch == '' then
  asked = is_reverse and top + 1 or 0
elseif epoch ~= position[1] or asked > top + (is_reverse and 1 or 0) then
  return {position[1], top, 0, {}}
end
if mode ~= position[3] then
  local is_whole = is_reverse and asked <= 1 or not is_reverse and asked >= top
  return {position[1], top, is_whole and 1 or 0, {}}
end

local PAGE_BYTES = 1048576
local MOST_READ = 256  -- entries at once: what is read beyond a page is dropped

local entries = {}
local size, is_limited = 0, false

-- False: no further entry is wanted.
local function add(offset, body)
  if size >= PAGE_BYTES then
    return false
  end
  if limit > 0 and #entries == limit then
    is_limited = true
    return false
  end
  entries[#entries + 1] = {offset, body}
  size = size + #body
  return true
end

local function read_recoverable()
  local command, last, place = 'XRANGE', '+', string.format('%.0f-2', asked)
  if is_reverse then
    command, last, place = 'XREVRANGE', '-', string.format('%.0f-0', asked)
  end
  local count = 4
  repeat
    local found = redis.call(command, KEYS[2], place, last, 'COUNT', count)
    for _, entry in ipairs(found) do
      if not add(tonumber(string.match(entry[1], '^%d+')), entry[2][2]) then
        return
      end
      place = '(' .. entry[1]
    end
    local is_end = #found < count
    count = math.min(2 * count, MOST_READ)
  until is_end
end

local function read_latest()
  local command, from, to = 'ZRANGEBYSCORE', '(' .. string.format('%.0f', asked), '+inf'
  if is_reverse then
    command, to = 'ZREVRANGEBYSCORE', '-inf'
  end
  local flat = redis.call(command, KEYS[4], from, to, 'WITHSCORES')
  for i = 1, #flat, 2 do
    if not add(tonumber(flat[i + 1]), redis.call('HGET', KEYS[3], flat[i])) then
      return
    end
  end
end

local lost  -- the greatest offset that is needed and no longer there
if mode == 'recoverable' then
  lost = top - redis.call('XLEN', KEYS[2])
  read_recoverable()
else
  lost = tonumber(position[4] or 0)
  read_latest()
end
local is_whole = lost <= asked
if is_reverse then
  is_whole = lost == 0 or asked <= 1
end
return {position[1], top, is_whole and not is_limited and 1 or 0, entries}
