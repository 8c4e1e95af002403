-- Remove chunks that were last committed before the present epoch.
--
-- ARGV: the epoch, then the ids. Returns 1, or 0 if the epoch is another.

local epoch = ARGV[1]
if current_epoch() ~= epoch then return 0 end
for at = 2, #ARGV do
    local name = ARGV[at] .. '\0'
    -- Epochs are stored such that their bytes sort as the numbers do.
    if redis.call('ZREMRANGEBYLEX', key, '[c' .. name, '(c' .. name .. epoch) > 0 then
        redis.call('ZREMRANGEBYLEX', key, range('d' .. name))
    end
end
return 1
