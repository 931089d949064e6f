-- One command on one key.
return redis.call(ARGV[2], key(ARGV[3], ARGV[4]), unpack(ARGV, 5))
