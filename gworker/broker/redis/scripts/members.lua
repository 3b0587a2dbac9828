#!lua flags=no-writes
-- common: lengths
-- KEYS: members of each process
-- ARGV: limit (0: all)
local limit, answer = tonumber(ARGV[1]), {}
for _, key in ipairs(KEYS) do
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if limit > 0 and #answer >= limit then
      return answer
    end
    local identity, rest = split(flat[i + 1])
    local _, info = split(rest)
    answer[#answer + 1] = {flat[i], identity, info}
  end
end
return answer
