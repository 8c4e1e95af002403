-- Take back a note, unless it was made again since its token was read.
--
-- KEYS: the entry of the id. ARGV: the execution, the token.

if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
    return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
