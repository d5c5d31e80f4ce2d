# Two relays for one database: one works; the other takes over in under 3 s when the first is killed or
# stopped, and the stopped one does no harm when it wakes up.
#
# Runs alone: a take-over has three seconds.

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $LIMIT = 3;

my $pair = PgTide::Faults->new;
my %relay = map { $_ => $pair->new_relay('us', $_, args => [ '--name', $_ ]) } qw(alpha beta);

sub owner
{
	my ($pipeline) = @_;
	my $row = $pair->pipeline('us', $pipeline);
	return ($row->{state} // '') eq 'running' ? $row->{owner} // '' : '';
}

# Seconds until both pipelines run in that relay.
sub taken_over_by
{
	my ($name, $limit) = @_;
	return wait_until(sub { owner('out') eq $name && owner('in') eq $name }, $limit // 30, "$name to own both pipelines");
}

$relay{alpha}->start;
ok(defined taken_over_by('alpha'), 'the first relay owns both pipelines');
$relay{beta}->start;
$pair->start_relay('eu');
$pair->start_load;
$pair->wait_arrivals('eu', 50);
is(owner('out'), 'alpha', 'the second one is a spare');
like(($relay{beta}->get('/readyz'))[1], qr/"out": "waiting"/, '... and says so');

$relay{alpha}->kill9;
my $took = taken_over_by('beta');
cmp_ok($took // 99, '<', $LIMIT, 'killed: the spare has taken over in time');
note sprintf 'killed: took over after %.2f s', $took // -1;
ok(defined $pair->wait_arrivals('eu', 20), 'events flow again');

$relay{alpha}->start;
kill 'STOP', $relay{beta}->pid;
$took = taken_over_by('alpha');
cmp_ok($took // 99, '<', $LIMIT, 'stopped: the spare has taken over in time');
note sprintf 'stopped: took over after %.2f s', $took // -1;
ok(defined $pair->wait_arrivals('eu', 100), 'events flow while the other sleeps');

kill 'CONT', $relay{beta}->pid;
ok(defined $pair->wait_arrivals('eu', 100), 'events flow after it woke up');
is(owner('out'), 'alpha', 'the one that woke up is a spare now');
ok(defined wait_until(sub { ($relay{beta}->get('/readyz'))[1] =~ /"out": "waiting"/ }, 20, 'the woken relay to be a spare'),
	'... and knows it');
ok($relay{beta}->alive, '... and lives');

$pair->stop_load;
$pair->verdict('after a kill and a stop');
is($relay{$_}->stop, 0, "$_ ends with status 0") for qw(alpha beta);
is_deeply($pair->stop, { eu => 0 }, 'so does the other region\'s');
done_testing();
