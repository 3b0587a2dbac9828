#!lua flags=no-writes
-- KEYS: members of each process
-- ARGV: limit (0: all)
local limit, answer = tonumber(ARGV[1]), {}
for _, key in ipairs(KEYS) do
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if limit > 0 and #answer >= limit then
      return answer
    end
    local length, start = string.match(flat[i + 1], '^.(%d+):()')
    answer[#answer + 1] = {
      flat[i],
      string.sub(flat[i + 1], start, start + length - 1),
      string.sub(flat[i + 1], start + length),
    }
  end
end
return answer
