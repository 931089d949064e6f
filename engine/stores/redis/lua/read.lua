-- Whole runs, as they are at one moment: those of the ids given, or of a graph's version those that have not ended.
local ids = {}
if ARGV[2] == 'ids' then
  for n = 3, #ARGV do ids[#ids + 1] = ARGV[n] end
else
  ids = redis.call('ZRANGEBYSCORE', of_version(ARGV[3], ARGV[4]), '(' .. ARGV[5], '+inf', 'LIMIT', 0, ARGV[6])
end

local found = {}
for _, id in ipairs(ids) do
  local fields = redis.call('HMGET', key('run', id), 'n', 's', 'g', 'v', 'f', 't', 'e', 'j', 'a', 'p', 'd')
  if fields[1] then
    local first = fields[10] and string.format('%d-0', tonumber(fields[10]) + 1) or '-'
    local inbox = {}
    for _, signal in ipairs(redis.call('ZRANGE', key('inbox', id), 0, -1)) do
      inbox[#inbox + 1] = {signal, redis.call('HGET', key('letters', id), signal)}
    end
    found[#found + 1] = {id, fields, redis.call('XRANGE', key('records', id), first, '+'), inbox}
  end
end
return found
