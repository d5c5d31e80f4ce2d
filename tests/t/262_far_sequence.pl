# A stream whose sequence numbers are far advanced: a new consumer's first acknowledgement must not
# make the server walk through all of them, which would take a minute and a half here.

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $FAR = 2_000_000_000;
my $STREAM = $PgTide::Faults::STREAM;
my $pair = PgTide::Faults->new;
$pair->start_relays;
$pair->start_load;
my @stuck = grep { !defined $pair->wait_arrivals($_, 20) } qw(us eu);
is("@stuck", '', 'events flow both ways');
$pair->stop_load;
$pair->verdict('to begin with');

is($pair->relay('eu')->stop, 0, 'the relay of eu rests');
$pair->nats('eu')->ctl('stream-purge', $STREAM, qq({"seq": $FAR}));
$pair->nats('eu')->ctl('consumer-delete', $STREAM, 'eu-reader');
$pair->start_relay('eu');
$pair->start_load;
ok(defined $pair->wait_arrivals('eu', 20, 30), "events arrive from behind sequence number $FAR");
my ($status) = $pair->nats('eu')->ctl_status('--timeout', 10_000, 'stream-info', $STREAM);
is($status, 0, 'and the stream answers');
$pair->stop_load;
$pair->verdict('far away');
is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
