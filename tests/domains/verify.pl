# Verifies the DKIM signatures of the message on standard input by Mail::DKIM.
# The first argument is the port of a name server on 127.0.0.1. Prints a line for each signature:
# its selector, its result, and why it is not "pass".
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

Mail::DKIM::DNS::resolver(
    Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $ARGV[0], recurse => 1));
my $verifier = Mail::DKIM::Verifier->new();
binmode STDIN;
{ local $/; $verifier->PRINT(scalar <STDIN>); }
$verifier->CLOSE;
for my $signature ($verifier->signatures) {
    printf "%s %s %s\n", $signature->selector, $signature->result, $signature->result_detail;
}
