-- The largest bills, through the index on a numeric column.
SELECT number, subject, billed_amount
FROM ticket
WHERE billed_amount >= 250
ORDER BY billed_amount DESC
LIMIT 20;
