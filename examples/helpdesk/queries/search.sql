-- The search box: in subjects and in messages.
SELECT ticket_number, ticket_subject, relevance
FROM search_tickets('invoice "tax rate"');
