"""The words of mail servers by which causes are told apart.

They are looked for in lower case, with single spaces. No repetition is nested in another, and gaps are
short, so that each takes linear time.
"""

#: Words by which a reply is told apart, in the order in which they are tried.
PATTERNS: tuple[tuple[str, str], ...] = (
    (r"virus (?:detected|found|infected)|infected (?:with|by|file)|\bmalware\b|contains? (?:a )?virus", "virus"),
    (
        r"\bdmarc\b|\bdkim\b(?!-signature)|\bspf\b|unauthenticated (?:e?mail|sender)|sender id \(pra\)|"
        r"authentication checks? failed|failed (?:sender )?authentication|sender authentication",
        "authentication",
    ),
    (
        r"\bptr\b|reverse[- ]dns|\brdns\b|reverse (?:lookup|hostname)|ip name lookup failed|no reverse|fcrdns",
        "no_reverse_dns",
    ),
    (r"relay quota|sending (?:quota|limit)|daily (?:quota|limit)|hourly|messages? per (?:hour|day)", "throttled"),
    (
        r"mail(?:box|folder)?(?: for user)? (?:is |was |seems |appears to be |too |currently )*full|over ?quota|"
        r"quota[ -]?exceeded|"
        r"exceed\w* (?:the |its |their |his |your |of )?(?:\w+ ){0,2}(?:quota|allowed size|local limit|storage)|"
        r"(?:quota|storage)(?: \w+){0,3} (?:exceed|full|reached)|(?:out of|not enough|insufficient) (?:mailbox |user )?"
        r"(?:storage|quota)|mailbox (?:size|limit|quota)|inbox (?:is )?full|full mail|exceeded storage allocation|"
        r"\bmbox_over|mailbox exceed|storedrv\.deliver.{0,80}quota|voll\b|bo[iî]te (?:aux lettres )?pleine|buzón lleno|"
        r"casella.{0,10}piena|容量.{0,12}超|переполнен|status: [45]\.2\.2",
        "mailbox_full",
    ),
    (
        r"insufficient (?:disk|system) (?:space|storage|resources)|no space left|disk (?:is )?full|"
        r"insufficient system storage|not enough disk",
        "system_full",
    ),
    (
        r"gr[ae]y-?list|gray list|please (?:try|retry) again in \d|deferred for \d+ (?:sec|min)|"
        r"postgrey|come back (?:in|later)",
        "greylisted",
    ),
    (
        r"(?:poor|bad|low|ip|sender|domain) reputation|reputation (?:of|is|score)|unexpected volume or user complaints",
        "reputation",
    ),
    (
        r"at a rate|rate[- ]limit|limit(?:ed|ing) (?:the )?rate|throttl|too many recipients this|frequency limit|"
        r"too (?:many (?:messages|mails|emails|e-mails)|fast|frequent)|exceeded .{0,30}(?:hour|day|minute)|"
        r"sent to too many|sending too|unusual rate",
        "throttled",
    ),
    (
        r"too many (?:\w+ ){0,3}(?:connections|sessions|recipients)|connection (?:rate|limit)|max(?:imum)? connections",
        "too_many_connections",
    ),
    (
        r"(?:message|mail|e-mail|content)(?: \w+){0,4} (?:too (?:big|large|long)|exceed)|size (?:limit|exceed)|"
        r"(?:message|mail) (?:size|length) exceed|maximum (?:message )?size|line limit exceeded|recipsizelimit|"
        r"too (?:big|large) (?:for|message)",
        "message_too_big",
    ),
    (
        r"spamhaus|\brbl\b|dnsbl|\b(?:black|block)[- ]?list(?:ed)? (?:by|at|in|on|ip|sender)|"
        r"address (?:is )?black ?list|blacklisted by|banned|\bis (?:currently )?listed (?:at|in|on|by)|(?:blocked|"
        r"denied|rejected|refused) (?:using|by (?:rbl|dns|ldap))|"
        r"(?:client host|ip|server|host|network|connection) (?:address )?(?:is )?(?:rejected|blocked|banned|"
        r"refused|not allowed)|"
        r"blocked for (?:abuse|spam)|open (?:mail )?relay|your ip|sending ip|spamcop|barracudacentral|sorbs|"
        r"weren't sent|access denied\.\.\.|no access from mail server|invalid ip for sending|blocked - see|"
        r"bloquee pour|\(bl\)",
        "reputation",
    ),
    (
        r"\bspam\b|spammy|\bube\b|\buce\b|unsolicited|junk (?:mail|e)|blacklisted (?:url|link)|bulk (?:mail|e)|"
        r"mail rejete",
        "spam",
    ),
    (
        r"\brelay(?:ing|ed)? (?:is )?(?:not|denied|den|prohibited|disallow|access|mail)|(?:unable|not (?:\w+ ){0,3}|no|"
        r"can(?:no|')t|denied|allow(?:ed)?|insecure mail|permitted) (?:to )?relay|rcpthosts|"
        r"address is not verified|we do not relay",
        "relaying_denied",
    ),
    (
        r"sender(?:'?s)? (?:e?-?mail )?(?:address )?(?:is )?(?:rejected|denied|invalid|not allowed|verify|"
        r"verification|refused|unknown)|"
        r"unroutable sender|domain of sender|purported responsible|(?:in reply to|"
        r"after) mail from.{0,40}(?:unknown|exist|denied)|"
        r"sender was rejected|provide a valid from|from: domain|customfromdenied|not allowed as sender|"
        r"you are not allowed to send|member of this (?:list|mailing)|not a member|members only|"
        r"permission to post|groups\.google\.com/support|"
        r"only members|posting(?:s)? (?:to|is|from)|not authori[sz]ed to send|unauthorized sender|restricted to|"
        r"senderrestriction|notauthorized",
        "sender_rejected",
    ),
    (
        r"recipient preferences|message filtered|refused by (?:the )?(?:recipient|user)|"
        r"recipient (?:does not|doesn't) (?:want|accept|wish)|blocked by (?:the )?(?:recipient|user)|"
        r"mail rejected by recipient",
        "recipient_refuses",
    ),
    (
        r"has moved|no longer on server|mailbox moved|user moved|address (?:has )?changed|new address is|moved to",
        "mailbox_moved",
    ),
    (
        r"null mx|no (?:smtp|mail) service|(?:does not|doesn't) (?:accept|receive) (?:e-?)?mail|no mx (?:record |"
        r"host )?found|"
        r"no mx or a|couldn't find a mail exchanger|not accepting (?:network )?(?:messages|mail)|no mail exchanger|"
        r"mail (?:is )?not accepted here|any mail (?:server|exchanger)",
        "no_mail_accepted",
    ),
    (
        r"(?:name ?server|dns)[^;]{0,60}(?:try again|temporar|time)|host (?:name )?lookup failure|"
        r"host not found, try again|"
        r"network (?:error|is unreachable)|malformed or unexpected name server|servfail|dns (?:server |query |"
        r"lookup )?(?:failed|error|timeout)|no relevant answers|"
        r"unable to resolve|cannot resolve",
        "network_error",
    ),
    (
        r"host(?: or domain name|/domain name| name| or domain)? (?:was |is )?(?:unknown|not found|found)|"
        r"unknown (?:host|domain|mail host)|"
        r"no such (?:domain|host)|(?:illegal|invalid|bad) (?:host|domain)|(?:domain|"
        r"host) [^ ]{0,80} ?(?:does(?: not|n't) exist|not found|invalid)|"
        r"couldn't find any host|unrouteable|unroutable|nxdomain|bad destination system|name or service not known|"
        r"dns lookup failure|domain (?:is )?not reachable|domain (?:may|name) (?:not|invalid)|"
        r"host [^ ]{1,80} not found|"
        r"domain name not found|not found in dns|account or domain may not exist|"
        r"(?<![^ ])[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63}){1,4} does not exist\b(?! \()",
        "invalid_domain",
    ),
    (
        r"(?:account|mailbox|user|recipient|address)(?:'s|\(s\))? (?:\S+ ){0,6}?(?:is |been |was |has |"
        r"temporarily |currently )*"
        r"(?:disabled|inactive|suspended|frozen|locked|deactivated|blocked|discontinued|bloque\b|not active|"
        r"inactivated|on hold)|"
        r"(?:disabled|suspended|inactive) (?:recipient|user|account|mailbox)|account expired|compte .{0,30}bloqu|"
        r"not currently active",
        "mailbox_disabled",
    ),
    (
        r"(?:user|recipient|mailbox|account|address|addressee|alias|userid|person|name)(?:'s|\(s\)|s)? ?(?:name |"
        r"address |account )?\S{0,90} ?"
        r"(?:is |was |are |does |do |could |can)*(?:unknown|un-?known|not (?:be )?(?:found|exist|known|listed|"
        r"valid|recognized|available|a valid|local|here|in)|"
        r"n't exist|doesn't exist|does not exist|invalid|unavailable|doesn't have|no longer (?:exist|valid|"
        r"available|in use|here|employed))|"
        r"unknown[ :-]*(?:or illegal |local |recipient )?(?:user|recipient|mailbox|address|alias|addressee|login|"
        r"account)|"
        r"(?:no such|non-?existent|nonexisting) (?:local )?(?:user|mailbox|recipient|person|address|account|email|"
        r"name|alias|addressee)|"
        r"no (?:mail ?box|user|account|one) (?:here|by|with|found|of|named)|no valid recipient|no local mailbox|"
        r"(?:invalid|bad|illegal|incorrect|wrong) (?:final delivery |destination |recipient |e-?mail |mailbox |local )*"
        r"(?:user|recipient|mailbox|address|userid|account|e-?mail)|address (?:rejected|not found|"
        r"couldn't be found|unknown)|"
        r"(?:email )?account that you tried to reach does not exist|not a (?:valid|known|registered) (?:user|"
        r"recipient|mailbox|address)|"
        r"\b542 \S{1,320} rejected|"
        r"recipnotfound|recipientnotfound|resolver\.adr|(?:not listed|no match|not found) in (?:public |the |"
        r"domino )?(?:name|address|directory|local)|"
        r"check if address is correct|unknown or illegal|user rejected|unknown alias|not our customer|"
        r"no recipients? found|"
        r"could not find .{0,40}(?:user|address)|hat ?kein|nicht (?:bekannt|gefunden)|unbekannt|existiert nicht|"
        r"adresse destinataire invalide|"
        r"n'existe pas|inconnu|no existe|desconocid|non esiste|sconosciut|não existe|n[aã]o encontrad|"
        r"не существует|не найден|"
        r"bestaat niet|onbekend|findes ikke|finns inte|ei ole olemassa|nie istnieje|見つかりません|存在しません|"
        r"リストにありません|宛先不明|不存在|查无此|無此|无此",
        "invalid_mailbox",
    ),
    (
        r"too many hops|hop count|mail(?:ing)? loop|routing loop|loops? back|loop detected|loop(?:ing)? (?:to|between)",
        "routing_loop",
    ),
    (
        r"in (?:the )?queue too long|retry timeout|expired|giving up\b(?! on)|not delivered within|"
        r"could not (?:be )?deliver(?:ed)? for|"
        r"after (?:multiple|many|several|\d+) (?:retries|attempts|days?|hours?)|\d+ attempts|has been delayed|"
        r"will be (?:retried|deleted from)|"
        r"undelivered after|still undelivered|for the last \d+ seconds|could not find a gateway|"
        r"for more than \d+ (?:hour|day)",
        "expired",
    ),
    (
        r"connection (?:\w+ ){0,2}(?:timed? ?out|refused|reset|lost|closed|dropped|failed)|(?:lost|"
        r"timed out) connection|timed out|timeout|"
        r"(?:unable|able|failed|fail) to (?:connect|establish|contact)|not (?:accept|respond)[^.]{0,30}(?:connect|"
        r"request)|host (?:is )?(?:not reachable|unreachable|down)|"
        r"no route to host|no response|couldn't connect|could not connect|can'?t connect|failed to connect|"
        r"not reachable|"
        r"unable to deliver .{0,80}connect|tls (?:is required|negotiation|handshake)|starttls",
        "network_error",
    ),
    (
        r"content (?:\w+ )?(?:rejected|denied|blocked|presents)|media error|duplicate header|8-bit data|"
        r"header error|message rejected due to content|"
        r"attachment|conversion|charset|bare (?:lf|cr|line)|not (?:rfc )?compliant|messagenoncompliant|"
        r"rfc 5?[28]22|redundant",
        "content",
    ),
    (
        r"protocol (?:violation|error)|syntax error|bad sequence|command (?:not|un)|need (?:rcpt|mail) command",
        "protocol",
    ),
    (
        r"polic(?:y|ies)|prohibited|administrative|not (?:allowed|permitted|authori[sz]ed|accepted)|"
        r"access (?:denied|is denied)|"
        r"authentication required|authrequired|delivery not authorized|security (?:polic|violat|reason)|forbidden|"
        r"permission denied|insufficient permission|use the smtp server of|"
        r"complaint|abuse|restricted|rejected by destination domain|service refuse",
        "policy",
    ),
    (
        r"(?:internal|operating|mail) ?(?:system|server|software) ?(?:error|problem)|internal error|"
        r"local (?:configuration )?error|system (?:error|problem)|configuration error|"
        r"temporary (?:failure|error|problem|local)|service (?:not|un|temporarily)|try (?:again )?later|"
        r"system resources|resources temporarily|transaction failed|"
        r"could not load|server busy|server error|duplicated message-id",
        "system_error",
    ),
    (
        r"mailer error|procmail|pipe to|child (?:status|process)|unknown mailer|\bexit(?:ed)? (?:status|code|"
        r"with)?\b|vdelivermail|command died",
        "mailer_error",
    ),
)
