-- Read chunks. ARGV: their ids.
-- Returns a list of as many as one answer may hold: the member, or nil if there is none.

local budget = 8 * 1024 * 1024  -- [bytes], one chunk more or less

local found, size = {}, 0
for index, id in ipairs(ARGV) do
    local chunk = member('d' .. id .. '\0')
    found[index] = chunk or false
    size = size + #(chunk or '')
    if size > budget then break end
end
return found
