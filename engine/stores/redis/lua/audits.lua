-- Lines of the audit log by number, all or those about one run.
local index, rev, after = P .. ':' .. ARGV[2], ARGV[3] == '1', ARGV[4]
local ids
if rev then
  ids = redis.call('ZREVRANGEBYSCORE', index, after == '0' and '+inf' or '(' .. after, '-inf', 'LIMIT', 0, ARGV[5])
else
  ids = redis.call('ZRANGEBYSCORE', index, '(' .. after, '+inf', 'LIMIT', 0, ARGV[5])
end
local found = {}
for n, id in ipairs(ids) do found[n] = {id, redis.call('HMGET', key('audit', id), 'n', 'a', 'r', 'd')} end
return found
