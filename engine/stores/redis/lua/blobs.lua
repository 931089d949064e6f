-- The blobs of some digests.
local found = {}
for n = 2, #ARGV do found[n - 1] = redis.call('GET', key('blob', ARGV[n])) end
return found
