-- One ticket with its messages, and the agents who wrote some of them.
SELECT ticket.subject, message.created_at, message.internal, agent.display_name AS agent, message.body
FROM ticket
JOIN message ON message.ticket_id = ticket.id
LEFT JOIN agent ON agent.id = message.agent_id
WHERE ticket.number = 1
ORDER BY message.created_at
LIMIT 100;
