# "pg_tide status" of links: as JSON, as tables, and again every second, on a terminal and in a pipe.
#
# Runs alone: answers have to come at once.

use strict;
use warnings;

use IPC::Run ();
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $ROWS = 200_000;
my $mesh = PgTide::Mesh->new;
my $program = "$ENV{TIDE_TOP}/build/pg_tide";

sub status_command
{
	my ($side, @args) = @_;
	return ($program, 'status', '-d', $mesh->node($side)->relay_conninfo, @args);
}

sub status
{
	my ($side, @args) = @_;
	IPC::Run::run([ status_command($side, @args) ], '<', \undef, '>', \my $out, '2>', \my $err);
	is($? >> 8, 0, "status @args") or diag($err);
	return $out;
}

sub link_of
{
	my ($document) = @_;
	my ($link) = grep { $_->{region} eq 'us-east' } @{ $document->{links} };
	return $link;
}

# A running "status --watch": what it has written so far grows in its buffers.
sub watch
{
	my ($side, @args) = @_;
	my $self = { out => '', err => '' };
	$self->{run} = IPC::Run::start([ status_command($side, '--watch', @args) ],
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err});
	return $self;
}

sub watch_until
{
	my ($self, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seen = wait_until(sub { $self->{run}->pump_nb; $self->{out} =~ $pattern }, 30, $what);
	ok(defined $seen, $what) or diag("$self->{out}\n$self->{err}");
	return;
}

sub watch_end
{
	my ($self, $signal) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	$self->{run}->signal($signal);
	IPC::Run::finish($self->{run});
	is($self->{run}->full_result(0), 0, "SIG$signal ends it with exit status 0");
	cmp_ok(time - $start, '<', 5, '... at once');
	return;
}

sub set_up
{
	$mesh->sql_all('CREATE TABLE goods (id int PRIMARY KEY, body text)');
	$mesh->class('shop');
	$mesh->add_table('goods', 'shop');
	$mesh->sql('us', "INSERT INTO goods SELECT n, repeat('x', 200) FROM generate_series(1, $ROWS) n");
	$mesh->sql('us', 'ANALYZE goods');
	return;
}

# The copy as it goes on: held up by a lock on its table until it has been looked at.
sub test_copy
{
	my $watch = watch('eu');
	$mesh->link('eu', 'us');
	watch_until($watch, qr/^\S+Z link from us-east: (?:stopped|copying|error)/m, 'lines, when it is no terminal: a link that is new');
	my $held = $mesh->node('eu')->background_psql('postgres');
	$held->query_safe('BEGIN; LOCK TABLE goods IN EXCLUSIVE MODE');
	$mesh->start_relay('eu');
	watch_until($watch, qr/link from us-east: copying.*copy \[\.+\] +0 %  0 of 1 tables/, '... and one that copies, with its bar');
	my $link = link_of(decode_json(status('eu', '--json')));
	is($link->{state}, 'copying', 'status --json: copying');
	is($link->{progress}{tables}, 1, '... tables');
	is($link->{progress}{tables_copied}, 0, '... none yet');
	like(status('eu'), qr/^us-east +direct +copying .*\n +copy \[[#.]{24}\] +\d+ %/m, 'status: the bar is under its link');
	$held->query_safe('COMMIT');
	$held->quit;
	watch_until($watch, qr/link from us-east: streaming, lag [\d.]+ s, behind -?\d+ k?B/, '... and then streams');
	unlike($watch->{out}, qr/\e/, '... without a terminal\'s codes');
	watch_end($watch, 'INT');
	return;
}

sub test_numbers
{
	ok(defined $mesh->wait_copied('eu', 'us'), 'the copy is done');
	$mesh->sql('us', "UPDATE goods SET body = 'y' WHERE id <= 100");
	$mesh->sql('us', "INSERT INTO goods VALUES (0, 'z')");
	$mesh->settle_one('us', 'eu');
	my $link = link_of(decode_json(status('eu', '--json')));
	is($link->{state}, 'streaming', 'status --json: streaming');
	is($link->{transport}, 'direct', '... transport');
	like($link->{position}, qr{^[0-9A-F]+/[0-9A-F]+$}, '... position');
	is($link->{rows}, 101, '... rows applied');
	cmp_ok($link->{transactions}, '>=', 2, '... transactions applied');
	is($link->{parked}, 0, '... parked');
	cmp_ok($link->{lag_seconds}, '<', 5, '... lag in seconds');
	like($link->{lag_bytes}, qr/^\d+$/, '... and in bytes');
	is_deeply([ @{ $link->{progress} }{qw(tables tables_copied rows_done)} ], [ 1, 1, $ROWS ], '... the copy that was');
	my ($slot) = @{ decode_json(status('us', '--json'))->{slots} };
	is($slot->{region}, 'eu-west', 'at the origin: the slot, and for whom it is');
	ok($slot->{active}, '... in use');
	is($slot->{wal_status}, 'reserved', '... the state of its WAL');
	like($slot->{retained_bytes}, qr/^\d+$/, '... how much it keeps');

	$mesh->sql('us', q{ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'});
	$mesh->node('us')->reload;
	my $full;
	wait_until(sub { IPC::Run::run([ status_command('us', '--json') ], '>', \my $out);
			defined($full = decode_json($out)->{slots}[0]{seconds_to_full}) }, 10, 'the time to full');
	cmp_ok($full // 0, '>', 0, '... and, with a limit, how long until it is full');
	my $text = status('us');
	like($text, qr/^SLOT +FOR +ACTIVE +WAL +RETAINED +ROOM +TIME TO FULL\n.* +eu-west +yes +reserved +\d/m, 'as a table, too');
	$text = status('eu');
	like($text, qr/^us-east +direct +streaming +[\d.]+ s +\d+ \w+ +\S+ +\d+ +101 +- +0 +\S+:\d+$/m, 'the link as a table');
	cmp_ok((sort { $b <=> $a } map { length } split /\n/, $text)[0], '<=', 120, '... in 120 columns');
	unlike($text, qr/[^\x20-\x7e\n]/, '... in plain characters');
	return;
}

sub test_watch_json
{
	my $watch = watch('eu', '--json');
	watch_until($watch, qr/\n.*\n.*\n/, '--watch --json: a document a second');
	watch_end($watch, 'TERM');
	my @documents = map { decode_json($_) } split /\n/, $watch->{out};
	cmp_ok(scalar @documents, '>=', 3, '... a line each');
	is(link_of($documents[0])->{rows}, 101, '... the same data as without --watch');
	ok(exists link_of($documents[1])->{rows_per_second}, '... and rows a second from the second on');
	is($watch->{err}, '', '... and nothing on standard error');
	return;
}

sub test_terminal
{
	my $log = "$ENV{TIDE_DATA}/typescript";
	my $command = join ' ', map { "'" . s/'/'\\''/gr . "'" } status_command('eu', '--watch');
	# script gives its command a terminal; ^C comes through it.  A shell left waiting would get it, too, and some die of it.
	local $ENV{TERM} = 'xterm';
	my ($in, $out) = ('', '');
	my $run = IPC::Run::start([ 'script', '-qefc', "stty rows 40 cols 132; exec $command", $log ], '<', \$in, '>', \$out, '2>&1');
	ok(defined wait_until(sub { $run->pump_nb; (() = $out =~ /\e\[H/g) >= 3 }, 30, 'three pictures'), 'a terminal is drawn over again');
	like($out, qr/LINK FROM.*us-east.*streaming/s, '... with the tables');
	like($out, qr/\e\[K\r?\n/, '... each line cleared to its end');
	$in = "\cC";
	ok(defined wait_until(sub { $run->pump_nb; !$run->pumpable }, 10, 'the end'), '^C ends it');
	IPC::Run::finish($run);
	is($run->full_result(0), 0, '... with exit status 0');
	return;
}

# The database goes away and comes back.
sub test_outage
{
	my $watch = watch('eu');
	watch_until($watch, qr/streaming/, 'watching');
	$mesh->node('eu')->stop('immediate');
	ok(defined wait_until(sub { $watch->{run}->pump_nb; $watch->{err} =~ /trying again/ }, 20, 'the news'), 'it says that the database is gone');
	$watch->{out} = '';
	$mesh->node('eu')->start;
	watch_until($watch, qr/streaming/, '... and goes on when it is back');
	watch_end($watch, 'INT');
	IPC::Run::run([ $program, 'status', '--watch', '-d', 'host=127.0.0.1 port=1' ], '>', \my $out, '2>', \my $err);
	is($? >> 8, 4, 'no database to begin with: exit status 4');
	return;
}

set_up();
test_copy();
test_numbers();
test_watch_json();
test_terminal();
test_outage();
$mesh->stop;
done_testing();
