-- Read checkpoints of a range of names, the last first.
--
-- ARGV: ttl as for renew(), '1' to read their writes too, how many, the ends of the range, the last
-- first. Names are those of checkpoints, or those by id.
-- Returns nil if there is no execution, else the epoch, what renew() returned, '1' if the range
-- was read to its end, and the checkpoints: the member (nil if it is lost), then its writes.

local budget = 8 * 1024 * 1024  -- [bytes] that one answer may take up, one checkpoint more or less

local epoch = current_epoch()
if not epoch then return false end
local with_writes, count = ARGV[2] == '1', tonumber(ARGV[3])
local names = redis.call('ZREVRANGEBYLEX', key, ARGV[4], ARGV[5], 'LIMIT', 0, count)
local found, size = {}, 0
for index, row in ipairs(names) do
    local id, namespace = row:match('^i(%Z*)%z(%Z*)%z$')
    if id then row = member('n' .. namespace .. '\0' .. id .. '\0') end
    local element = {row or false}
    size = size + #(row or '')
    if row and with_writes then
        for place, write in ipairs(redis.call('ZRANGEBYLEX', key, range('w' .. row:match('^n(%Z*%z%Z*%z)')))) do
            element[place + 1] = write
            size = size + #write
        end
    end
    found[index] = element
    if size > budget then break end
end
local complete = #found == #names and #names < count
return {epoch, renew(tonumber(ARGV[1])), complete and '1' or '', found}
